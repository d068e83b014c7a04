"""Lets update-feed read all seven days of the feed once more.

Its cursor held ISBNs that were read and not yet sent. Now the editions and misses hold that: they are marked while the
feed is read.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("harvest", "0001_initial")]
    operations = [migrations.RunSQL("UPDATE harvest_cronstate SET cursor = '{}' WHERE name = 'update-feed'")]
