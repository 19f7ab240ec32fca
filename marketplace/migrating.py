"""Migrations without drawing every model anew after each operation.

Django renders a model again whenever an operation changes it, and with it all that are related: here nearly all, some
hundred operations long. Operations that follow each other and touch different things share one rendering of the models
as all of them leave these; what is added to a table that is made among them is made with it. And they are shown only
the models they touch and what these point at. Python code in a migration is shown all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration, operations
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState, StateApps
from django.db.migrations.utils import resolve_relation

Key = tuple[str, str]  # of a model: label of its app, name in lower case
_NEW = (operations.CreateModel, operations.AddConstraint, operations.AddIndex)  # ask only for what will be


class QuickExecutor(MigrationExecutor):
    """Django's executor; only the way forward is quicker."""

    def _migrate_all_forwards(
        self, state: ProjectState, plan: Any, full_plan: Any, fake: bool, fake_initial: bool
    ) -> ProjectState:
        if not (fake or fake_initial):
            state.apps = _NotDrawn()  # else Django draws all models before the first migration asks for one
        state = super()._migrate_all_forwards(state, plan, full_plan, fake, fake_initial)
        if isinstance(state.__dict__.get("apps"), _NotDrawn):
            del state.apps
        return state

    def apply_migration(self, state: ProjectState, migration: Migration, *args: Any, **options: Any) -> ProjectState:
        migration.__class__ = type("Quick", (_Quick, migration.__class__), {"__module__": migration.__module__})
        return super().apply_migration(state, migration, *args, **options)


class _NotDrawn:
    """Stands where the models of a state will be."""

    def clone(self) -> _NotDrawn:
        return self


class _Quick(Migration):
    def apply(
        self, project_state: ProjectState, schema_editor: BaseDatabaseSchemaEditor, collect_sql: bool = False
    ) -> ProjectState:
        project_state.__dict__.pop("apps", None)  # drawn again, in part or whole, when an operation asks for it
        if collect_sql or not schema_editor.atomic_migration:
            return super().apply(project_state, schema_editor, collect_sql)
        for together in in_runs(self.operations):
            before = project_state.clone()
            for operation in together:
                operation.state_forwards(self.app_label, project_state)
            if (changed := _changed_by(together, self.app_label, before)) is not None:
                project_state.apps = _drawn(project_state, changed)
                if not all(isinstance(operation, _NEW) for operation in together):
                    before.apps = _drawn(before, changed)
            made: set[str] = set()
            for operation in together:
                if isinstance(operation, operations.CreateModel):
                    made.add(operation.name_lower)
                elif _touches(operation)[1] in made:
                    continue  # the table was made with it
                operation.database_forwards(self.app_label, schema_editor, before, project_state)
            project_state.__dict__.pop("apps", None)
        project_state.apps = _NotDrawn()
        return project_state


# -- which models an operation needs to see -----------------------------------------------------------------------

def _changed_by(together: list[Operation], app_label: str, before: ProjectState) -> set[Key] | None:
    """The models that a run changes, with those that point at one whose column changes; None where it may need any."""
    changed: set[Key] = set()
    for operation in together:
        match operation:
            case operations.CreateModel() | operations.DeleteModel():
                changed.add((app_label, operation.name_lower))
            case operations.AlterField():
                key = (app_label, operation.model_name_lower)
                changed |= {key} | {one for one in before.models if key in _points_at(before, one)}
            case (
                operations.AddField() | operations.RemoveField() | operations.AddConstraint()
                | operations.RemoveConstraint() | operations.AddIndex() | operations.RemoveIndex()
            ):
                changed.add((app_label, operation.model_name.lower()))
            case _:
                return None
    return changed


def _drawn(state: ProjectState, changed: set[Key]) -> StateApps:
    """Render these models and all that they point at, directly or not."""
    found: set[Key] = set()
    left = changed & state.models.keys()
    while left:
        key = left.pop()
        found.add(key)
        left |= (_points_at(state, key) & state.models.keys()) - found
    return StateApps(state.real_apps, {key: model for key, model in state.models.items() if key in found})


def _points_at(state: ProjectState, key: Key) -> set[Key]:
    model = state.models[key]
    remotes = [field.remote_field for field in model.fields.values() if field.remote_field]
    named = [each for remote in remotes for each in (remote.model, getattr(remote, "through", None)) if each]
    named += [base for base in model.bases if isinstance(base, str)]
    return {resolve_relation(each, *key) for each in named}


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
