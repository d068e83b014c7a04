from django.urls import path

from quota import api

urlpatterns = [path("quota/status", api.QuotaStatusView.as_view(), name="quota-status")]
