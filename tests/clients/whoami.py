"""What a client asks a database, and what the answer must be: whom it connected as, to which database, in which role."""

from tests.clients.credentials import DATABASE, USER

POSTGRESQL = (
    "SELECT current_user || '@' || current_database() || ':' || ssl || ':' || pg_is_in_recovery() "
    "FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
)
PRIMARY = f"{USER}@{DATABASE}:true:false"
STANDBY = f"{USER}@{DATABASE}:true:true"

MYSQL = "SELECT CONCAT(SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '@', DATABASE())"
EXPECTED = f"{USER}@{DATABASE}"
