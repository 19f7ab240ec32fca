"""Migrations without drawing every model anew after each operation.

Django renders a model again whenever an operation changes it, and with it all that are related: here nearly all, some
hundred operations long. Operations that follow each other and touch different things share one rendering of the models
as all of them leave these; what is added to a table that is made among them is made with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration, operations
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState


class QuickExecutor(MigrationExecutor):
    """Django's executor; only the way forward is quicker."""

    def apply_migration(self, state: ProjectState, migration: Migration, *args: Any, **options: Any) -> ProjectState:
        migration.__class__ = type("Quick", (_Quick, migration.__class__), {"__module__": migration.__module__})
        return super().apply_migration(state, migration, *args, **options)


class _Quick(Migration):
    def apply(
        self, project_state: ProjectState, schema_editor: BaseDatabaseSchemaEditor, collect_sql: bool = False
    ) -> ProjectState:
        if collect_sql or not schema_editor.atomic_migration:
            return super().apply(project_state, schema_editor, collect_sql)
        for together in in_runs(self.operations):
            before = project_state.clone()
            if len(together) > 1:
                project_state.__dict__.pop("apps", None)  # rendered again when the first asks for it
            for operation in together:
                operation.state_forwards(self.app_label, project_state)
            made: set[str] = set()
            for operation in together:
                if isinstance(operation, operations.CreateModel):
                    made.add(operation.name_lower)
                elif _touches(operation)[1] in made:
                    continue  # the table was made with it
                operation.database_forwards(self.app_label, schema_editor, before, project_state)
        return project_state


def in_runs(all_of_them: list[Operation]) -> Iterator[list[Operation]]:
    """Yield the operations in order, in runs in which nothing is touched twice."""
    run: list[Operation] = []
    touched: set[str] = set()
    for operation in all_of_them:
        name, _ = _touches(operation)
        if run and (not name or name in touched):
            yield run
            run, touched = [], set()
        run.append(operation)
        touched.add(name)
        if not name:
            yield run
            run, touched = [], set()
    if run:
        yield run


def _touches(operation: Operation) -> tuple[str, str]:
    """What the operation makes or changes, and of which model; "" for one that stands alone."""
    match operation:
        case operations.CreateModel():
            return operation.name_lower, operation.name_lower
        case operations.AddField() | operations.AlterField():
            return f"{operation.model_name_lower}.{operation.name_lower}", operation.model_name_lower
        case operations.AddConstraint():
            return f"constraint {operation.constraint.name}", operation.model_name.lower()
        case operations.AddIndex():
            return f"index {operation.index.name}", operation.model_name.lower()
    return "", ""
