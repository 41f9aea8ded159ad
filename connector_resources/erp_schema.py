"""The reference ERP's tables, made from the entity catalogue, and the change log that triggers fill.

Every statement can run again: new entities and new fields of the catalogue are added, nothing is dropped.

The change log says who wrote which fields of which record, and when, in the same transaction as the write. `app.actor` names
who, where it is set; the database account otherwise. Readers by position must stay below `pg_snapshot_xmin`: a lower id may
still be uncommitted.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

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


def every_column(entity: CatalogueEntity) -> str:
    """A statement that fails when the table lacks a column of the catalogue."""
    columns = [*entity.columns.values(), *([entity.tenant_column] if entity.tenant_column else [])]
    return f"SELECT {', '.join(map(quoted, columns))} FROM {table_name(entity)} WHERE false"


Parents: TypeAlias = Sequence[
    tuple[CatalogueEntity, Lines]
]  # documents, and as which of their lines an entity belongs to them


def parents_of(entity: CatalogueEntity, catalogue: Mapping[str, CatalogueEntity]) -> Parents:
    return [(one, lines) for one in catalogue.values() for lines in one.entity.lines if lines.entity == entity.entity.name]


def log_triggers(entity: CatalogueEntity, schema: str, *, tenants: bool = True, parents: Parents = ()) -> Iterator[str]:
    """One trigger a statement, not a row: with transition tables the log costs one INSERT … SELECT. What happens to a line
    is logged as an update of its document, too.

    `tenants`: the log has a tenant column. In a database of the user's own it has none, and the function works as whoever made
    it: the accounts that write there know nothing of our schema."""
    key = quoted(entity.columns[entity.entity.key])
    name, function = entity.entity.name, f"{schema}.{quoted('log_' + entity.entity.name)}"
    tenant = quoted(entity.tenant_column) if tenants and entity.tenant_column else None
    columns = "tenant_id, " if tenant else ""
    actor = "coalesce(nullif(current_setting('app.actor', true), ''), session_user)"
    logged = [f for f in entity.entity.fields if not f.computed and f.name != entity.entity.key]

    def insert(rows: str, action: str, alias: str, fields: str) -> str:
        who = f"{alias}.{tenant}, " if tenant else ""
        return (
            f"INSERT INTO {schema}.change_log ({columns}entity, record_id, action, fields, actor) "
            f"SELECT {who}'{name}', {alias}.{key}::text, '{action}', {fields}, {actor} FROM {rows};"
        )

    present = "array_remove(ARRAY[" + ", ".join(_named(f, f"n.{_column(entity, f)} IS NOT NULL") for f in logged) + "], NULL)"
    differing = ", ".join(_named(f, _differ(f, _column(entity, f))) for f in logged)
    changed = f"array_remove(ARRAY[{differing}], NULL)"
    updated = f"new_rows n JOIN old_rows o ON o.{key} = n.{key} CROSS JOIN LATERAL (SELECT {changed} AS fields) c"

    def documents(rows: str, *aliases: str) -> str:
        made = ""
        for parent, lines in parents:
            column = quoted(entity.columns[lines.parent])
            ids = " UNION ".join(f"SELECT {f'{a}.{tenant}, ' if tenant else ''}{a}.{column} FROM {rows}" for a in aliases)
            who = "d.tenant_id, " if tenant else ""
            made += (
                f"INSERT INTO {schema}.change_log ({columns}entity, record_id, action, fields, actor) "
                f"SELECT {who}'{parent.entity.name}', d.id::text, 'update', ARRAY['{lines.name}'], {actor} "
                f"FROM ({ids}) AS d ({columns}id);"
            )
        return made

    differ = f"{updated} WHERE c.fields <> '{{}}'"
    rights = "" if tenants else "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
    yield f"""CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql {rights} AS $$ BEGIN
        IF TG_OP = 'INSERT' THEN {insert("new_rows n", "create", "n", present)} {documents("new_rows n", "n")}
        ELSIF TG_OP = 'UPDATE' THEN {insert(differ, "update", "n", "c.fields")} {documents(differ, "n", "o")}
        ELSE {insert("old_rows o", "delete", "o", "'{}'::text[]")} {documents("old_rows o", "o")}
        END IF; RETURN NULL; END $$"""
    for event, tables in (
        ("insert", "NEW TABLE AS new_rows"),
        ("update", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        ("delete", "OLD TABLE AS old_rows"),
    ):
        yield f"DROP TRIGGER IF EXISTS integration_log_{event} ON {table_name(entity)}"
        yield (
            f"CREATE TRIGGER integration_log_{event} AFTER {event} ON {table_name(entity)} "
            f"REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )


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


def _differ(field: Field, column: str) -> str:
    as_value = "::jsonb" if field.type is FieldType.JSON else ""  # the type json knows no equality
    return f"n.{column}{as_value} IS DISTINCT FROM o.{column}{as_value}"


def _named(field: Field, condition: str) -> str:
    return f"CASE WHEN {condition} THEN '{field.name}' END"
