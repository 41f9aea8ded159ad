"""The reference ERP's tables, made from the entity catalogue, and the change log that triggers fill.

Every statement can run again: new entities and new fields of the catalogue are added, nothing is dropped.

The change log says who wrote which fields of which record, and when, in the same transaction as the write. `app.actor` names
who, where it is set; the database account otherwise. Readers by position must stay below `pg_snapshot_xmin`: a lower id may
still be uncommitted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import sqlalchemy as sa

from connector_resources.catalogue import CatalogueEntity
from connector_resources.contract import Field, FieldType, Lines
from connector_resources.sql import quoted

SQL_TYPES: Mapping[FieldType, str] = {
    FieldType.STRING: "text",
    FieldType.INTEGER: "bigint",
    FieldType.DECIMAL: "numeric",
    FieldType.BOOLEAN: "boolean",
    FieldType.DATE: "date",
    FieldType.INSTANT: "timestamptz",
    FieldType.JSON: "jsonb",
}


def table_name(entity: CatalogueEntity) -> str:
    schema = f"{quoted(entity.schema)}." if entity.schema else ""
    return schema + quoted(entity.table)


def reference_schema(catalogue: Mapping[str, CatalogueEntity], role: str) -> Iterator[str]:
    """Statements that make the reference ERP in schema `erp`, one tenant's rows at a time visible to `role`."""
    yield "CREATE SCHEMA IF NOT EXISTS erp"
    yield f"GRANT USAGE ON SCHEMA erp TO {role}"
    yield from log_tables("erp", tenants=True)
    yield from _guard("erp.change_log", role, "SELECT, INSERT")
    yield """CREATE OR REPLACE FUNCTION erp.touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$"""
    for entity in catalogue.values():
        yield from _table(entity)
        yield from _guard(table_name(entity), role)
        yield from log_triggers(entity, "erp", parents=parents_of(entity, catalogue))
    for entity in catalogue.values():
        yield from _references(entity, catalogue)


def log_tables(schema: str, *, tenants: bool) -> Iterator[str]:
    tenant = "tenant_id uuid NOT NULL," if tenants else ""
    yield f"CREATE SCHEMA IF NOT EXISTS {schema}"
    yield f"""CREATE TABLE IF NOT EXISTS {schema}.change_log (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {tenant}
        entity text NOT NULL, record_id text NOT NULL, action text NOT NULL, fields text[] NOT NULL, actor text NOT NULL,
        txid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp())"""
    yield f"CREATE INDEX IF NOT EXISTS change_log_record ON {schema}.change_log (entity, record_id, id)"
    yield f"CREATE INDEX IF NOT EXISTS change_log_since ON {schema}.change_log (txid, entity)"


def applied_intents(schema: str) -> Iterator[str]:
    """In an ERP database of the user's own: which of our writes arrived. Written in the record's transaction."""
    yield f"""CREATE TABLE IF NOT EXISTS {schema}.applied_intents (
        id uuid PRIMARY KEY, record_id text NOT NULL, version text, applied_at timestamptz NOT NULL DEFAULT now())"""


def fitting(entity: CatalogueEntity) -> Iterator[str]:
    """Statements that fail when the user's table is not as the catalogue says: a column that it lacks, one that is a view or
    has heirs (nobody hears what is written to what stands behind it), or a key that does not tell one record from all others,
    whichever tenant's they are."""
    columns = [*entity.columns.values(), *([entity.tenant_column] if entity.tenant_column else [])]
    table, key = table_name(entity), entity.columns[entity.entity.key]
    yield f"SELECT {', '.join(map(quoted, columns))} FROM {table} WHERE false"
    plain = f"""SELECT FROM pg_class c WHERE oid = {_literal(table)}::regclass AND (
                    relkind = 'p' OR relkind = 'r' AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid))"""
    yield _demanded(plain, f"{table} must be a table, and none that others inherit from")
    unique = f"""SELECT FROM pg_attribute a JOIN pg_index i ON i.indrelid = a.attrelid AND i.indkey[0] = a.attnum
                 WHERE a.attrelid = {_literal(table)}::regclass AND a.attname = {_literal(key)} AND a.attnotnull
                 AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1 AND i.indpred IS NULL"""
    yield _demanded(unique, f"the key {key} of {table} must be NOT NULL and have a unique index of its own")


def _demanded(query: str, refusal: str) -> str:
    """A statement that fails with this sentence when the query finds nothing."""
    body = f"BEGIN IF NOT EXISTS ({query}) THEN RAISE wrong_object_type USING MESSAGE = {_literal(refusal)}; END IF; END"
    return f"DO {_literal(body)}"


def is_partitioned(connection: sa.Connection, entity: CatalogueEntity) -> bool:
    kind = sa.text("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(:table)")
    return bool(connection.execute(kind, {"table": table_name(entity)}).scalar())


Parents: TypeAlias = Sequence[
    tuple[CatalogueEntity, Lines]
]  # documents, and as which of their lines an entity belongs to them


def parents_of(entity: CatalogueEntity, catalogue: Mapping[str, CatalogueEntity]) -> Parents:
    return [(one, lines) for one in catalogue.values() for lines in one.entity.lines if lines.entity == entity.entity.name]


def log_triggers(
    entity: CatalogueEntity, schema: str, *, tenants: bool = True, parents: Parents = (), partitioned: bool = False
) -> Iterator[str]:
    """One trigger a statement, not a row: with transition tables the log costs one INSERT … SELECT. What happens to a line
    is logged as an update of its document, too. A record whose key changes is another one.

    `tenants`: the log has a tenant column. In a database of the user's own it has none, and the function works as whoever made
    it: the accounts that write there know nothing of our schema. There TRUNCATE is logged, too.
    `partitioned`: a trigger a row, which each partition gets, also those to come: they may be written to directly."""
    table, function = table_name(entity), f"{schema}.{quoted('log_' + entity.entity.name)}"
    yield _log_function(_Log(entity, schema, tenants, parents, partitioned), function)
    events = {
        "insert": "REFERENCING NEW TABLE AS new_rows",
        "update": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
        "delete": "REFERENCING OLD TABLE AS old_rows",
    }
    for event, rows in events.items():
        each = "FOR EACH ROW" if partitioned else f"{rows} FOR EACH STATEMENT"
        yield f"DROP TRIGGER IF EXISTS integration_log_{event} ON {table}"
        yield f"CREATE TRIGGER integration_log_{event} AFTER {event} ON {table} {each} EXECUTE FUNCTION {function}()"
    if not tenants:
        yield f"DROP TRIGGER IF EXISTS integration_log_truncate ON {table}"
        yield f"CREATE TRIGGER integration_log_truncate AFTER TRUNCATE ON {table} EXECUTE FUNCTION {function}()"


@dataclass(frozen=True)
class _Log:
    """What the statements of one entity's log function are made of."""

    entity: CatalogueEntity
    schema: str
    tenants: bool
    parents: Parents
    partitioned: bool

    @property
    def tenant(self) -> str | None:
        return quoted(self.entity.tenant_column) if self.tenants and self.entity.tenant_column else None

    @property
    def insert(self) -> str:
        columns = "tenant_id, " if self.tenant else ""
        return f"INSERT INTO {self.schema}.change_log ({columns}entity, record_id, action, fields, actor) SELECT "

    def records(self, rows: str, aliases: Sequence[str], action: str, fields: str) -> str:
        def told(column: str) -> str:
            return f"coalesce({', '.join(f'{a}.{quoted(column)}' for a in aliases)})"

        who = f"{told(self.entity.tenant_column)}, " if self.tenants and self.entity.tenant_column else ""
        key = told(self.entity.columns[self.entity.entity.key])
        return f"{self.insert}{who}'{self.entity.entity.name}', {key}::text, {action}, {fields}, {_ACTOR} FROM {rows};"

    def documents(self, rows: str, aliases: Sequence[str]) -> str:
        """An update of each document that one of these rows is, or was, a line of."""
        made, columns = "", "tenant_id, " if self.tenant else ""
        for parent, lines in self.parents:
            column = quoted(self.entity.columns[lines.parent])
            ids = " UNION ".join(
                f"SELECT {f'{a}.{self.tenant}, ' if self.tenant else ''}{a}.{column} FROM {rows}" for a in aliases
            )
            made += (
                f"{self.insert}{'d.tenant_id, ' if self.tenant else ''}'{parent.entity.name}', d.id::text, 'update', "
                f"ARRAY['{lines.name}'], {_ACTOR} FROM ({ids}) AS d ({columns}id) WHERE d.id IS NOT NULL;"
            )
        return made

    def truncated(self) -> str:
        """Nobody can say which records are gone: see erp_changes.changed_since."""
        names = [self.entity.entity.name, *(parent.entity.name for parent, _ in self.parents)]
        return "".join(f"{self.insert}'{name}', '', 'truncate', '{{}}'::text[], {_ACTOR};" for name in names)


_ACTOR = "coalesce(nullif(current_setting('app.actor', true), ''), session_user)"


def _log_function(log: _Log, function: str) -> str:
    entity = log.entity
    key = quoted(entity.columns[entity.entity.key])
    logged = [f for f in entity.entity.fields if not f.computed and f.name != entity.entity.key]

    def fields(condition: str) -> str:
        named = (f"CASE WHEN {condition.format(column=_column(entity, f))} THEN '{f.name}' END" for f in logged)
        return f"array_remove(ARRAY[{', '.join(named)}]::text[], NULL)"

    new, old = ("(SELECT NEW.*)", "(SELECT OLD.*)") if log.partitioned else ("new_rows", "old_rows")
    # Compared by their bytes: not each type knows an equality, and one of an extension's would not be found from here.
    changed = fields("record_image_ne(ROW(n.{column}), ROW(o.{column}))")
    both = f"""{new} n FULL JOIN {old} o ON o.{key}::text = n.{key}::text CROSS JOIN LATERAL (SELECT {changed} AS fields) c
        WHERE c.fields <> '{{}}' OR o.{key} IS NULL OR n.{key} IS NULL"""
    action = f"CASE WHEN o.{key} IS NULL THEN 'create' WHEN n.{key} IS NULL THEN 'delete' ELSE 'update' END"
    told = f"CASE WHEN n.{key} IS NULL THEN '{{}}' ELSE c.fields END"
    cases = {
        "INSERT": (f"{new} n", "n", "'create'", fields("n.{column} IS NOT NULL")),
        "UPDATE": (both, "no", action, told),
        "DELETE": (f"{old} o", "o", "'delete'", "'{}'::text[]"),
    }
    body = "\n".join(
        f"IF TG_OP = '{event}' THEN {log.records(rows, aliases, *what)} {log.documents(rows, aliases)} END IF;"
        for event, (rows, aliases, *what) in cases.items()
    )
    if not log.tenants:
        body += f"\nIF TG_OP = 'TRUNCATE' THEN {log.truncated()} END IF;"
    rights = "" if log.tenants else "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
    return f"""CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql {rights} AS
        $$ BEGIN {body} RETURN NULL; END $$"""


def _table(entity: CatalogueEntity) -> Iterator[str]:
    table = table_name(entity)
    yield f"""CREATE TABLE IF NOT EXISTS {table} (
        tenant_id uuid NOT NULL DEFAULT app_tenant(), id uuid PRIMARY KEY DEFAULT gen_random_uuid(), UNIQUE (tenant_id, id))"""
    for field in entity.entity.fields:
        if field.name == entity.entity.key:
            continue
        yield f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {_column(entity, field)} {_type(entity, field)}"
        if field.unique:
            yield _unique(entity, field)
    if entity.entity.modified == "updated_at":
        yield f"CREATE INDEX IF NOT EXISTS {quoted(entity.table + '_updated')} ON {table} (tenant_id, updated_at)"
        yield f"DROP TRIGGER IF EXISTS touch ON {table}"
        yield f"CREATE TRIGGER touch BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION erp.touch()"


def _unique(entity: CatalogueEntity, field: Field) -> str:
    """A constraint that is checked after each statement, not after each row: two records may swap their numbers in one."""
    table, name = table_name(entity), f"{entity.table}_{field.name}_key"
    return f"""DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = '{name}' AND conrelid = '{table}'::regclass) THEN
            DROP INDEX IF EXISTS erp.{quoted(name)};
            ALTER TABLE {table} ADD CONSTRAINT {quoted(name)} UNIQUE (tenant_id, {_column(entity, field)}) DEFERRABLE;
        END IF;
    END $$"""


def _type(entity: CatalogueEntity, field: Field) -> str:
    if any(reference for reference in field.references):
        kind = "uuid"
    elif field.type is FieldType.STRING and field.max_length:
        kind = f"varchar({field.max_length})"
    elif field.type is FieldType.DECIMAL:
        kind = f"numeric(38, {field.scale})"
    else:
        kind = SQL_TYPES[field.type]
    if field.computed and field.type is FieldType.INSTANT:
        return f"{kind} NOT NULL DEFAULT clock_timestamp()"
    default = " DEFAULT true" if field.name == entity.entity.active else ""
    return f"{kind}{'' if field.nullable or field.computed else ' NOT NULL'}{default}"


def _references(entity: CatalogueEntity, catalogue: Mapping[str, CatalogueEntity]) -> Iterator[str]:
    for field in entity.entity.fields:
        if len(field.references) != 1 or field.references[0] not in catalogue:
            continue
        name = quoted(f"{entity.table}_{field.name}_fkey")
        column, parent = _column(entity, field), table_name(catalogue[field.references[0]])
        yield f"""DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = '{table_name(entity)}'::regclass
                           AND conname = '{entity.table}_{field.name}_fkey') THEN
                ALTER TABLE {table_name(entity)} ADD CONSTRAINT {name}
                    FOREIGN KEY (tenant_id, {column}) REFERENCES {parent} (tenant_id, id);
            END IF; END $$"""
        index = quoted(f"{entity.table}_{field.name}_idx")
        yield f"CREATE INDEX IF NOT EXISTS {index} ON {table_name(entity)} (tenant_id, {column})"


def _guard(table: str, role: str, rights: str = "SELECT, INSERT, UPDATE, DELETE") -> Iterator[str]:
    ours = "(SELECT app_tenant()) IS NOT DISTINCT FROM tenant_id"  # no index serves this: see Erp.ours
    yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
    yield f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"
    yield f"DROP POLICY IF EXISTS tenant ON {table}"
    yield f"CREATE POLICY tenant ON {table} TO {role} USING ({ours}) WITH CHECK ({ours})"
    yield f"GRANT {rights} ON {table} TO {role}"


def _column(entity: CatalogueEntity, field: Field) -> str:
    return quoted(entity.columns[field.name])


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
