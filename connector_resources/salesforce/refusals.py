"""What it means when Salesforce refuses one record of many: statusCode → a sentence with the way out.

"Status Codes" of the SOAP API Developer Guide, which the results of sObject Collections and of bulk jobs use. Their messages
may quote values, so only the names of fields are passed on.
"""

import re
from collections.abc import Iterable, Mapping

LOCKED = "UNABLE_TO_LOCK_ROW"
GONE = ("ENTITY_IS_DELETED", "NOT_FOUND", "INVALID_CROSS_REFERENCE_KEY")  # of the record itself, or of one it refers to

SENTENCES: Mapping[str, str] = {
    "REQUIRED_FIELD_MISSING": "it lacks a required field; map it, or fill it in the ERP",
    "STRING_TOO_LONG": "a text is longer than its field; shorten it in the ERP, or cut it in the mapping",
    "JSON_PARSER_ERROR": "a value is none that its field's type can hold, such as a whole number of more than 32 bits",
    "NUMBER_OUTSIDE_VALID_RANGE": "a number has more digits than its field holds",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": "a value is no choice of its field; map it to one, or add the choice there",
    "INVALID_EMAIL_ADDRESS": "an e-mail address is none; correct it in the ERP",
    "INVALID_TYPE_ON_FIELD_IN_RECORD": "a value has another type than its field; convert it in the mapping",
    "FIELD_INTEGRITY_EXCEPTION": "a value does not fit the others, or refers to a record of another kind",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": "it breaks a validation rule of the org; see the rules of that entity in Salesforce",
    "FIELD_FILTER_VALIDATION_EXCEPTION": "a reference leads to a record that the field's filter does not allow",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": "a flow or trigger of the org failed on it; ask its Salesforce administrator",
    "DUPLICATE_VALUE": "a unique field holds what another record has already; find that one there, and link or correct it",
    "DUPLICATES_DETECTED": "a duplicate rule of the org finds a record like it; link that one, or merge them there",
    "DUPLICATE_EXTERNAL_ID": "several records there have its external id; make the field unique, or clear it on all but one",
    "INVALID_CROSS_REFERENCE_KEY": "it refers to a record that is not there, or that the connector's user does not see",
    "ENTITY_IS_DELETED": "it refers to a record that is deleted; restore that one, or refer to another",
    "MALFORMED_ID": "a reference holds no record id",
    "INVALID_FIELD_FOR_INSERT_UPDATE": "a field may not be written by the connector's user, or only when a record is new",
    "INVALID_FIELD": "it names something that is not there, such as a parent's external id",
    "INSUFFICIENT_ACCESS_OR_READONLY": "the connector's user may not edit it; give it Edit on entity and record",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": "the connector's user may not use a record that it refers to",
    "DELETE_FAILED": "other records need it; delete or move those first",
    "ENTITY_IS_LOCKED": "it is locked by an approval process; finish that one first",
    "STANDARD_PRICE_NOT_DEFINED": "its product has no standard price; give it one first",
    "STORAGE_LIMIT_EXCEEDED": "the org's storage is full; free some",
    LOCKED: "somebody else is changing it or its parent, and still was after several tries; it is tried again by the next run",
}
_NAME = re.compile(r"\w+(?:\.\w+)*", re.ASCII)
_CODE = re.compile(r"[A-Z_]{1,80}")


def sentence(entity: str, code: str, fields: Iterable[object] = ()) -> str:
    """Why one record is refused, naming the fields where Salesforce does."""
    known = code if _CODE.fullmatch(code) else "no error code"
    named = ", ".join(str(field) for field in fields if _NAME.fullmatch(str(field)))
    about = f"{known}: {named}" if named else known
    return f"Salesforce refuses this {entity}: {SENTENCES.get(known, 'see its list of status codes')} ({about})."
