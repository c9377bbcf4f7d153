"""What was kept long enough, and what belongs to a lead, is found by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_ENDED = sa.text("finished_ms IS NOT NULL")
_HAS_PHOTOS = sa.text("photos <> '[]'")


def upgrade() -> None:
    op.create_index("ix_jobs_finished", "jobs", ["finished_ms"], sqlite_where=_ENDED, postgresql_where=_ENDED)
    op.create_index(
        "ix_jobs_photos", "jobs", ["state", "finished_ms"], sqlite_where=_HAS_PHOTOS, postgresql_where=_HAS_PHOTOS
    )
    op.create_index("ix_jobs_replay_of", "jobs", ["replay_of"])
    op.create_index("ix_orders_lead", "orders", ["lead_id"])
    op.create_index("ix_orders_job", "orders", ["job_id"])
