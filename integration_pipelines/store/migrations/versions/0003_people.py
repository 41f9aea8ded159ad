"""People and programs: platform operators, sessions, counted attempts to sign in, keys that expire."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace(":", "\\:"))
