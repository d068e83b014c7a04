"""How long ISBNdb's feed of updates has been followed without a gap. Only enrichment/services/feed.py writes it."""

from datetime import timedelta

from django.db import models
from django.db.models import Q

FEED_HISTORY = timedelta(days=7)
"""How far back ISBNdb's feed goes."""


class FeedFollowing(models.Model):
    """A time in which the feed was followed without a gap. At most one row has not ended."""

    began_at = models.DateTimeField(help_text="When its first reading began. The feed names every later change.")
    reading_since = models.DateTimeField(help_text="When the latest reading began; it may not be at its end.")
    read_up_to = models.DateTimeField(
        null=True, blank=True, help_text="When the latest reading began that came to its end. Empty: none has."
    )
    ended_at = models.DateTimeField(null=True, blank=True)
    why_ended = models.TextField(blank=True, help_text="The gap that ended it.")
    ended_by = models.CharField(max_length=100, blank=True, help_text="The run that noticed the gap.")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "times of following the feed"
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at=None, why_ended="") | Q(ended_at__isnull=False) & ~Q(why_ended=""),
                name="enrichment_feedfollowing_end_has_reason",
            ),
            models.UniqueConstraint(
                fields=["why_ended"], condition=Q(why_ended=""), name="enrichment_feedfollowing_one_goes_on"
            ),
        ]

    def __str__(self) -> str:
        return f"feed followed since {self.began_at:%Y-%m-%d %H:%M}"
