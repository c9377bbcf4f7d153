"""The database refuses a step that is done without a result that passed its rules, and a call without an outcome."""

from alembic import op

revision = "0005"
down_revision = "0004"

RULES = {
    "steps": ("state <> 'done' OR result IS NOT NULL", "a step that is done needs a result"),
    "calls": ("outcome <> ''", "a call needs an outcome"),
}


def upgrade() -> None:
    """SQLite adds no constraint to a table that exists, but triggers."""
    for table, (rule, why) in RULES.items():
        if op.get_context().dialect.name == "postgresql":
            op.execute(f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_verdict CHECK ({rule})")
            continue
        written = rule.replace("state", "NEW.state").replace("result", "NEW.result").replace("outcome", "NEW.outcome")
        for event in ("INSERT", "UPDATE"):
            op.execute(
                f"CREATE TRIGGER ck_{table}_verdict_{event.lower()} BEFORE {event} ON {table} WHEN NOT ({written}) "
                f"BEGIN SELECT RAISE(ABORT, '{why}'); END"
            )
