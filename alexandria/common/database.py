"""How PostgreSQL says that it cannot be used at present."""

from django.db import DatabaseError, InterfaceError, OperationalError

OUT_OF_REACH = (OperationalError, InterfaceError)
"""What Django raises when the database does not answer, or not in time. A later retry can succeed."""

READ_ONLY = "25006"
"""The SQLSTATE of a database that takes no writes: a standby, or a primary that was set to read-only.

Django does not raise an OperationalError for it, but a later retry can succeed as well.
"""


def sqlstate(error: DatabaseError) -> str:
    """PostgreSQL's code for the error; "" when the error does not come from PostgreSQL."""
    return getattr(error.__cause__, "sqlstate", None) or ""
