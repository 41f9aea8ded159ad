"""Salesforce through its REST API (REST API Developer Guide)."""
