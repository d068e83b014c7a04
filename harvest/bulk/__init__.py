"""For `manage.py bulk_author_harvest`: a job of authors in our database (local.py) or at a server (remote.py)."""
