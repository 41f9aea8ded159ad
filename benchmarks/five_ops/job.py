"""What both run. Imports nothing but Dagster: stock Dagster's environment has nothing else."""

import dagster as dg


@dg.op
def one() -> int:
    return 1


@dg.op
def two(number: int) -> int:
    return number + 1


@dg.op
def three(number: int) -> int:
    return number + 1


@dg.op
def four(number: int) -> int:
    return number + 1


@dg.op
def five(number: int) -> None:
    assert number == 4


@dg.job(executor_def=dg.in_process_executor)
def five_ops() -> None:
    five(four(three(two(one()))))


defs = dg.Definitions(jobs=[five_ops])
