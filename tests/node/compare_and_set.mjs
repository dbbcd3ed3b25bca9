// Preconditions through the published SDK: what a conflict looks like, and a counter that many callers share.
// The argument is how many times to count.
import assert from 'node:assert/strict'
import { call, main, refusal, worker } from './lib.mjs'

const [times] = process.argv.slice(2).map(Number)
const GROUP = { stream_name: 'expect', group_id: 'node' }

main(async () => {
  const [a, b] = [worker(), worker()]
  await conflicts(a, b)
  await Promise.all([a, b].map(count))
  await Promise.all([a.shutdown(), b.shutdown()])
})

/** Two callers saw the same: the first of them may change it. */
async function conflicts(a, b) {
  const item = { ...GROUP, item_id: 'i' }
  const conflict = async (id, payload, message) => {
    const error = await refusal(b, id, payload)
    assert.equal(error.name, 'InvocationError', String(error))
    assert.equal(error.code, 'STREAM_CONFLICT', String(error))
    assert.match(error.message, message)
  }
  const seen = await Promise.all([a, b].map((caller) => call(caller, 'stream::get', { ...item, revision: true })))
  assert.deepStrictEqual(seen, Array(2).fill({ value: null, revision: 0 }))

  const first = await call(a, 'stream::set', { ...item, data: { n: 1 }, expect: { revision: 0 } })
  assert.deepStrictEqual(first, { old_value: null, new_value: { n: 1 }, revision: 1 })
  await conflict('stream::set', { ...item, data: { n: 2 }, expect: { revision: 0 } }, /at revision 1, expected revision 0/)
  await conflict('stream::delete', { ...item, expect: { value: { n: 2 } } }, /at revision 1, expected another value/)
  const ops = [{ type: 'increment', path: 'n', by: 1 }]
  await conflict('stream::update', { ...item, ops, expect: { revision: 7 } }, /at revision 1, expected revision 7/)

  const second = await call(b, 'stream::update', { ...item, ops, expect: { value: { n: 1.0 } } })
  assert.deepStrictEqual(second, { old_value: { n: 1 }, new_value: { n: 2 }, revision: 2 })
  const list = await call(a, 'stream::list', { ...GROUP, revision: true })
  assert.deepStrictEqual(list, [{ id: 'i', value: { n: 2 }, revision: 2 }])
  const removed = await call(a, 'stream::delete', { ...item, expect: { revision: 2 } })
  assert.deepStrictEqual(removed, { old_value: { n: 2 }, revision: 3 })
}

/** Reads and sets again until nobody came between, each time. */
async function count(caller) {
  const counter = { stream_name: 'expect', group_id: 'shared', item_id: 'counter' }
  for (let done = 0; done < times; ) {
    const { value, revision } = await call(caller, 'stream::get', { ...counter, revision: true })
    try {
      await call(caller, 'stream::set', { ...counter, data: (value ?? 0) + 1, expect: { revision } })
      done += 1
    } catch (error) {
      assert.equal(error.code, 'STREAM_CONFLICT', String(error))
    }
  }
}
