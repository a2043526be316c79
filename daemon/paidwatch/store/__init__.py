"""The only callers of SQL; every statement stands named in `sql/`."""
