"""Join the rows of a run with their scores."""

from contextlib import closing

from harmless_runtime.run import Run
from harmless_runtime.scores.columns import kind_of, names_of, objects_of, schema_of
from harmless_runtime.scores.lines import check_column
from harmless_runtime.scores.targets import targets_of


def check_join(run: Run) -> None:
    """Raise OutputError if rows cannot be joined with scores, as far as their first ones tell.

    Raises:
        InputError, ConfigError: as `Inputs.rows`.
    """
    if run.join is None:
        return
    for target in targets_of(run):
        if target.form.kind != "JSON lines":
            kind = kind_of(target.sources, run.inputs, target.final.name)
            if kind != "objects":
                if target.form.kind == "Parquet":
                    schema = schema_of(kind, target.sources, run.inputs, target.final.name)
                    names = schema.names
                else:
                    names = names_of(kind, target.sources, run.inputs)
                check_column(run.join, names, target.sources[0].name)
                continue
        for source in target.sources:
            with closing(objects_of(source, run.inputs)) as rows:
                first = next(rows, {})
            check_column(run.join, first, source.name)
