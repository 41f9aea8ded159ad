"""Always on: definitions that follow the database, runs that are tried again, alerts and the channels that they go to."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace(":", "\\:"))
