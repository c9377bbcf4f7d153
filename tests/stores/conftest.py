"""The databases that the suites of the database ports run on."""

from tests.engines import database, database_url, postgres_url
from tests.stores.released import released_url

__all__ = ["database", "database_url", "postgres_url", "released_url"]
