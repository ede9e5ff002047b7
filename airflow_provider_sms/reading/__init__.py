"""How files and SQL queries are read, a chunk at a time, and named without their secrets; knows no ledger."""
