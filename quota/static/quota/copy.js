// The button beside a new key, or a webhook's new secret. Without the clipboard (plain http) the key is selected, to be copied by hand.
document.querySelector(".quota-copy").addEventListener("click", async () => {
  const key = document.getElementById("key");
  const told = document.getElementById("copied");
  key.select();
  try {
    await navigator.clipboard.writeText(key.value);
    told.textContent = "Copied.";
  } catch {
    told.textContent = "Selected: copy it with Ctrl+C.";
  }
});
