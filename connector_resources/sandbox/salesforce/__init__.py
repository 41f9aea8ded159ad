"""A Salesforce org in memory, spoken to as the real one is: OAuth 2.0, REST, SOQL."""
