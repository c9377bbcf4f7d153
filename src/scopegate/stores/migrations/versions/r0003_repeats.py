"""An order knows whose repeat it may be, and how often the app was asked about it; first answers are kept."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_HAS_CLAIM = sa.text("claim IS NOT NULL")


def upgrade() -> None:
    op.add_column("orders", sa.Column("claim", sa.Text))
    op.add_column("orders", sa.Column("claim_body", sa.Text))
    op.add_column("orders", sa.Column("claim_until_ms", sa.BigInteger))
    op.add_column("orders", sa.Column("asked", sa.Integer, nullable=False, server_default="0"))
    op.add_column("orders", sa.Column("ask_ms", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index(
        "ux_orders_claim", "orders", ["claim"], unique=True, sqlite_where=_HAS_CLAIM, postgresql_where=_HAS_CLAIM
    )
    op.create_table(
        "answers",
        sa.Column("order_id", sa.Text, sa.ForeignKey("orders.order_id"), primary_key=True),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("fields", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_answers_until", "answers", ["until_ms"])
