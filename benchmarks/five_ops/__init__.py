"""The same five trivial ops for stock Dagster and for ours."""
