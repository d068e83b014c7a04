"""The enrichment API, one module for each part."""
