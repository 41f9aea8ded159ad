import os

# Importing pandera sets this to 1 (for Spark), and from then on pyarrow drops the offset of every instant that it is given:
# 03:00+02:00 would become 03:00 UTC, silently. Empty means no, for both of them, whichever is imported first.
os.environ["PYARROW_IGNORE_TIMEZONE"] = ""
