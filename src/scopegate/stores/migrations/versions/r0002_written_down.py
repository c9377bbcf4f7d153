"""Programs of version 0.1.0 refuse this database: they do not know its revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(sa.text("UPDATE schema_version SET version = 2"))
