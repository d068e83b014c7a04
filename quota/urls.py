from django.urls import path

from quota import api

urlpatterns = [
    path("quota/status", api.QuotaStatusView.as_view(), name="quota-status"),
    path("quota/me", api.MyQuotaView.as_view(), name="quota-me"),
    path("quota/history", api.HistoryView.as_view(), name="quota-history"),
    path("quota/forecast", api.ForecastView.as_view(), name="quota-forecast"),
    path("quota/calls", api.CallsView.as_view(), name="quota-calls"),
]
