"""Tables of a shop's own (CSV, TSV, JSON lines, Parquet) as RecBole's atomic files."""
