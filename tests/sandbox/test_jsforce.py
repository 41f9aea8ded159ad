"""A stock client, unchanged: jsforce. JSFORCE_DIR names a folder with node_modules/jsforce."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from connector_resources.sandbox import Sandbox

SCRIPT = """
const jsforce = require('jsforce');
const [url, token, username, password] = process.argv.slice(1);
(async () => {
  const conn = new jsforce.Connection({ instanceUrl: url, accessToken: token });
  const out = {};
  const all = await conn.query('SELECT Id, Name FROM Contact ORDER BY Name', { autoFetch: true, maxFetch: 10000 });
  out.fetched = new Set(all.records.map(r => r.Id)).size;
  const first = await conn.query('SELECT Id FROM Contact');
  out.first = [first.records.length, first.done];
  const second = await conn.queryMore(first.nextRecordsUrl);
  out.second = second.records.length;
  const streamed = [];
  await new Promise((resolve, reject) => conn.query('SELECT Id FROM Contact')
    .on('record', r => streamed.push(r.Id)).on('end', resolve).on('error', reject).run({ autoFetch: true, maxFetch: 10000 }));
  out.streamed = streamed.length;
  out.found = (await conn.sobject('Account').find({ Name: { $like: 'Acc%' } }, 'Id, Name, Owner.Name').limit(5)).length;
  out.describe = (await conn.describe('Account')).fields.length;
  out.global = (await conn.describeGlobal()).sobjects.map(s => s.name);
  const made = await conn.sobject('Account').create({ Name: 'Made' });
  out.updated = (await conn.sobject('Account').update({ Id: made.id, Phone: '1' })).success;
  out.retrieved = (await conn.sobject('Account').retrieve(made.id)).Phone;
  const up = await conn.sobject('Account').upsert({ ERP_Id__c: 'C-1', Name: 'Up' }, 'ERP_Id__c');
  const again = await conn.sobject('Account').upsert({ ERP_Id__c: 'C-1', Name: 'Again' }, 'ERP_Id__c');
  out.upserted = [up.success, again.success, up.id === again.id];
  const many = await conn.sobject('Account').create([{ Name: 'a' }, { Name: 'b' }]);
  out.many = many.map(r => r.success);
  out.several = (await conn.sobject('Account').retrieve(many.map(r => r.id))).map(r => r.Name);
  out.destroyed = (await conn.sobject('Account').destroy(made.id)).success;
  out.destroyedMany = (await conn.sobject('Account').destroy(many.map(r => r.id))).map(r => r.success);
  const rows = [{ Name: 'bulk 1', ERP_Id__c: 'B-1' }, { Name: 'bulk 2', ERP_Id__c: 'B-2' }, { ERP_Id__c: 'B-3' }];
  const load = { object: 'Account', operation: 'upsert', externalIdFieldName: 'ERP_Id__c', pollInterval: 10, input: rows };
  const loaded = await conn.bulk2.loadAndWaitForResults(load);
  out.loaded = [loaded.successfulResults.length, loaded.failedResults.map(r => r.sf__Error), loaded.unprocessedRecords.length];
  const stream = await conn.bulk2.query("SELECT Id, Name FROM Account WHERE ERP_Id__c LIKE 'B-%'", { pollInterval: 10 });
  out.bulk = (await stream.toArray()).map(r => r.Name).sort();
  const body = [
    { method: 'POST', url: `/services/data/v${conn.version}/sobjects/Account`, referenceId: 'new', body: { Name: 'Both' } },
    { method: 'POST', url: `/services/data/v${conn.version}/sobjects/Contact`, referenceId: 'child',
      body: { LastName: 'Child', AccountId: '@{new.id}' } },
  ];
  const both = await conn.requestPost(`/services/data/v${conn.version}/composite`, { compositeRequest: body });
  out.composite = both.compositeResponse.map(r => r.httpStatusCode);
  const partly = await conn.sobject('Account').create([{ Name: 'good' }, { Phone: '1' }], { allOrNone: false });
  out.partly = partly.map(r => r.success || r.errors[0].statusCode);
  const hard = conn.bulk2.createJob({ object: 'Account', operation: 'hardDelete' });
  try { await hard.open(); } catch (e) { out.hard = e.errorCode; }
  out.limits = (await conn.limits()).DailyApiRequests.Max;
  out.usage = conn.limitInfo.apiUsage.limit;
  try { await conn.query('SELECT Nope FROM Account'); } catch (e) { out.refused = e.errorCode; }
  const other = new jsforce.Connection({ loginUrl: url });
  await other.login(username, password);
  out.login = (await other.query('SELECT Id FROM User LIMIT 1')).totalSize;
  console.log(JSON.stringify(out));
})().catch(e => { console.error(e); process.exit(1); });
"""


def _modules() -> Path:
    folder = os.environ.get("JSFORCE_DIR")
    if not shutil.which("node") or not folder or not (Path(folder) / "node_modules" / "jsforce").is_dir():
        pytest.skip("needs node, and JSFORCE_DIR naming a folder with node_modules/jsforce (npm install jsforce)")
    return Path(folder)


def test_jsforce_works_unchanged() -> None:
    folder = _modules()
    with Sandbox(accounts=30, contacts=4500) as sandbox:
        sandbox.state.insert("Account", [{"Name": "Acc 1"}, {"Name": "acc 2"}])
        given = [sandbox.url, sandbox.state.open_session(), sandbox.credentials["username"], sandbox.credentials["password"]]
        command = [str(shutil.which("node")), "-e", SCRIPT, *given]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        fields, sobjects = len(sandbox.state.schema["Account"].fields), list(sandbox.state.schema)
    assert run.returncode == 0, run.stderr
    out: dict[str, Any] = json.loads(run.stdout)
    assert out == {
        "fetched": 4500,
        "first": [2000, False],
        "second": 2000,
        "streamed": 4500,
        "found": 2,
        "describe": fields,
        "global": sobjects,
        "updated": True,
        "retrieved": "1",
        "upserted": [True, True, True],
        "many": [True, True],
        "several": ["a", "b"],
        "destroyed": True,
        "destroyedMany": [True, True],
        "loaded": [2, ["REQUIRED_FIELD_MISSING:Required fields are missing: [Name]:Name --"], 0],
        "bulk": ["bulk 1", "bulk 2"],
        "composite": [201, 201],
        "partly": [True, "REQUIRED_FIELD_MISSING"],
        "hard": "FEATURENOTENABLED",
        "limits": 100_000,
        "usage": 100_000,
        "refused": "INVALID_FIELD",
        "login": 1,
    }
