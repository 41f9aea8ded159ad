"""`python -m integration_pipelines` is the command `integration`."""

from integration_pipelines.cli import main

main(prog_name="integration")
