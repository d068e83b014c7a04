// The "Copy" button beside a new secret. Without a clipboard (plain http) the secret is selected, for Ctrl+C.
"use strict";

document.querySelector(".alx-copy").addEventListener("click", async () => {
  const secret = document.getElementById("secret");
  const message = document.getElementById("copied");
  secret.select();
  try {
    await navigator.clipboard.writeText(secret.value);
    message.textContent = "Copied.";
  } catch {
    message.textContent = "Selected. Press Ctrl+C to copy it.";
  }
});
