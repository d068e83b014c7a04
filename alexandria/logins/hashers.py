"""How passwords are hashed."""

import threading

from django.contrib.auth.hashers import PBKDF2PasswordHasher

_one_at_a_time = threading.Lock()


class OneAtATimeHasher(PBKDF2PasswordHasher):
    """Django's own hasher. A hash takes about half a second of a CPU, so a process makes only one at a time."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with _one_at_a_time:
            return super().encode(password, salt, iterations)
