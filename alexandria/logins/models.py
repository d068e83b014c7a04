"""Who has tried to log in, when and from where."""

from django.db import models


class LogIn(models.Model):
    """An attempt to log in. Its row is there before the password is checked."""

    at = models.DateTimeField()
    username = models.CharField(
        max_length=150, help_text="The user. Of a name that no user has: a hash, as it may be a password."
    )
    address = models.CharField(max_length=39, blank=True, help_text="The IP address of the client.")
    succeeded = models.BooleanField(default=False)

    class Meta:
        ordering = ["-at"]
        verbose_name = "log-in"
        indexes = [
            models.Index(fields=["username", "-at"], name="logins_login_username"),
            models.Index(fields=["address", "-at"], name="logins_login_address"),
            models.Index(fields=["-at"], name="logins_login_at"),
        ]

    def __str__(self) -> str:
        return f"{self.username} at {self.at:%Y-%m-%d %H:%M:%S}"
