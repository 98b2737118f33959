"""Whom the databases know, and with which passwords."""

HOSTILE = "p@:/?#[]% &+=\"'\\`$ü€ x;"
"""What a password may hold to break a URI, a shell, an option file or a quotation."""
ASCII_HOSTILE = HOSTILE.encode("ascii", "ignore").decode()
"""PyMySQL sends passwords in Latin-1, whatever the server expects; with mysqlclient and the command line any goes."""
USER, DATABASE, POOL = "doadmin", "defaultdb", "orders-pool"
