"""Requests and answers of the enrichment API, one module for each part."""
