"""All tables of the paper that a reproduction fills."""

from fsd.report.analysis_tables import cka_table, cost_table, ranks_table
from fsd.report.score_tables import own_tables, parts_table, score_tables, spread_table
from fsd.report.settings import settings_table


def make_tables(reproduction, published, benchmark=None):
    """Tables 2 to 8, ours beside the published numbers; one of settings, where a method was trained with several; and one of
    the scores of tasks of one's own, if there are any.

    Args:
        reproduction: :class:`fsd.report.runs.Reproduction`; cells without runs stay empty.
        published: content of results/published.json.
        benchmark: rows of :func:`fsd.report.analysis_tables.read_benchmark`, or None.
    """
    tables = [*score_tables(reproduction, published), parts_table(reproduction, published), spread_table(reproduction, published),
              cka_table(reproduction, published), ranks_table(reproduction, published),
              cost_table(reproduction, published, benchmark), *own_tables(reproduction)]
    settings = settings_table(reproduction)
    return [*tables, settings] if settings else tables
