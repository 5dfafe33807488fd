"""Keeps connections to SQLite, which oslo.db opens anew for each transaction: that is a quarter of all that Nova does."""
from oslo_db.sqlalchemy import engines
from sqlalchemy import pool


class Kept(pool.QueuePool):
    def __init__(self, creator, **options):
        # Nobody waits for a connection as long as somebody who has one waits for him.
        super().__init__(creator, **{**options, "pool_size": 20, "max_overflow": -1})


engines.pool.NullPool = Kept
