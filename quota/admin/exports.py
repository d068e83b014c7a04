"""Exports of the quota's lists."""

from datetime import date

from django.http import HttpRequest

from alexandria.common.list_exports import RowExportMixin
from quota.admin.filters import chosen_day
from quota.selectors.status import get_status


class ExportMixin(RowExportMixin):
    """Names a file after the day that is chosen in the list, or after the quota's day of today."""

    def export_day(self, request: HttpRequest) -> date:
        return chosen_day(request) or get_status().day
