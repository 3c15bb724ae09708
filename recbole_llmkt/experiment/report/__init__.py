"""Reports of a comparison: statistics, tables, figures."""
