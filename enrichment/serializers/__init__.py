"""What the enrichment API takes and gives, a module for each part of it."""
