"""What the notebook of the tests is about: clients, and the people who work for them."""

from connector_resources.contract import Entity, Field, FieldType

CLIENT = Entity(
    "Client",
    (
        Field("Id", FieldType.STRING, personal=False, nullable=False),
        Field("Name", FieldType.STRING, personal=True, nullable=False, max_length=80),
        Field("Number", FieldType.STRING, personal=False),
        Field("Email", FieldType.STRING, personal=True),
        Field("Phone", FieldType.STRING, personal=True),
        Field("Revenue", FieldType.DECIMAL, scale=2, personal=False),
        Field("Changed", FieldType.INSTANT, personal=False, computed=True),
    ),
    key="Id",
    modified="Changed",
)
CLIENT_MAPPING = """
mapping_name: client-customer
source_entity: Client
target_entity: customer
mappings:
  - {source: Name, target: name}
  - {source: Number, target: customer_number, match: true}
  - {source: Email, target: email}
  - {source: Phone, target: phone}
  - {source: Revenue, target: annual_revenue}
  - {constant: true, target: active}
"""
PERSON = Entity(
    "Person",
    (
        Field("Id", FieldType.STRING, personal=False, nullable=False),
        Field("Surname", FieldType.STRING, personal=True, nullable=False),
        Field("ClientId", FieldType.STRING, personal=False, references=("Client",)),
        Field("Changed", FieldType.INSTANT, personal=False, computed=True),
    ),
    key="Id",
    modified="Changed",
)
PERSON_MAPPING = """
mapping_name: person-contact_person
source_entity: Person
target_entity: contact_person
mappings:
  - {source: Surname, target: last_name}
  - {source: ClientId, target: customer_id, reference: {entity: customer, external: Client}}
  - {constant: true, target: active}
"""
