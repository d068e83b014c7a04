"""The enrichment API, a module for each part of it."""
