// All eight stream functions through the published SDK, with their exact results; errors; functions of workers.
import assert from 'node:assert/strict'
import { TriggerAction } from 'iii-sdk'
import { call, main, refusal, within, worker } from './lib.mjs'

const CODES = { badInput: 'deserialization_error', notFound: 'function_not_found', failed: 'invocation_failed' }

main(async () => {
  const a = worker()
  const b = worker()
  await results(a)
  await values(a)
  await earlierSpellings(a)
  await errors(a)
  await functionsOfWorkers(a, b)
  await voidCalls(a, b)
  await Promise.all([a.shutdown(), b.shutdown()])
})

/** Every function, on a server that holds nothing yet. */
async function results(a) {
  const gives = async (id, payload, expected) =>
    assert.deepStrictEqual(await call(a, id, payload), expected, `${id} ${JSON.stringify(payload)}`)
  const group = { stream_name: 'chat', group_id: 'room-1' }
  const item = { ...group, item_id: 'm1' }
  const first = { id: 'm1', text: 'hello', n: 1 }
  const second = { id: 'm1', text: 'hello again', n: 2 }

  await gives('stream::list_all', {}, { stream: [], count: 0 })
  await gives('stream::list', group, [])
  await gives('stream::list_groups', { stream_name: 'chat' }, [])
  await gives('stream::get', item, undefined)
  await gives('stream::delete', item, { old_value: null })

  await gives('stream::set', { ...item, data: first }, { old_value: null, new_value: first })
  await gives('stream::set', { ...item, data: second }, { old_value: first, new_value: second })
  await gives('stream::get', item, second)

  const ops = [
    { type: 'increment', path: 'n', by: 40 },
    { type: 'set', path: 'text', value: 'bye' },
  ]
  const third = { id: 'm1', text: 'bye', n: 42 }
  await gives('stream::update', { ...item, ops }, { old_value: second, new_value: third })
  const created = { ...group, item_id: 'm0', ops: [{ type: 'merge', value: { id: 'm0' } }] }
  await gives('stream::update', created, { old_value: null, new_value: { id: 'm0' } })

  // In the order of creation, not of names.
  await gives('stream::list', group, [third, { id: 'm0' }])
  await gives('stream::send', { ...group, type: 'typing', data: { who: 'a' } }, null)
  await gives('stream::send', { ...item, id: 'm1', type: 'typing', data: null }, null)

  // Groups in the order of their bytes, however they came about.
  for (const group_id of ['b', 'a', 'Z', 'é']) {
    await gives('stream::set', { stream_name: 'chat', group_id, item_id: 'x', data: 1 }, { old_value: null, new_value: 1 })
  }
  await gives('stream::set', { stream_name: 'a-stream', group_id: 'g', item_id: 'x', data: 1 }, { old_value: null, new_value: 1 })
  const groups = ['Z', 'a', 'b', 'room-1', 'é']
  await gives('stream::list_groups', { stream_name: 'chat' }, groups)
  const stream = [{ id: 'a-stream', groups: ['g'] }, { id: 'chat', groups }]
  await gives('stream::list_all', {}, { stream, count: 2 })

  await gives('stream::delete', item, { old_value: third })
  await gives('stream::get', item, undefined)
  await gives('stream::list', group, [{ id: 'm0' }])
  // An emptied group is no longer listed.
  await gives('stream::delete', { stream_name: 'a-stream', group_id: 'g', item_id: 'x' }, { old_value: 1 })
  await gives('stream::list_groups', { stream_name: 'a-stream' }, [])
}

/** Every kind of value is stored and comes back; a stored null is not a missing item. */
async function values(a) {
  const group = { stream_name: 'values', group_id: 'g' }
  const all = [null, true, 0, -1.5, '', 'text', '😀\u0000\n"', [], {}, [null], { a: { b: [1, { c: null }] } }]
  for (const [n, data] of all.entries()) {
    const item = { ...group, item_id: `v${n}` }
    assert.deepStrictEqual(await call(a, 'stream::set', { ...item, data }), { old_value: null, new_value: data })
    assert.deepStrictEqual(await call(a, 'stream::get', item), data)
  }
  assert.deepStrictEqual(await call(a, 'stream::list', group), all)
}

async function earlierSpellings(a) {
  const group = { stream_name: 'earlier', group_id: 'g' }
  const item = { ...group, item_id: 'i' }
  const gives = async (id, payload, expected) => assert.deepStrictEqual(await call(a, id, payload), expected, id)
  await gives('streams.set', { ...item, data: { n: 1 } }, { old_value: null, new_value: { n: 1 } })
  await gives('streams.get', item, { n: 1 })
  const ops = [{ type: 'increment', path: 'n', by: 1 }]
  await gives('streams.update', { ...item, ops }, { old_value: { n: 1 }, new_value: { n: 2 } })
  await gives('streams.getGroup', group, [{ n: 2 }])
  await gives('streams.listGroups', { stream_name: 'earlier' }, ['g'])
  const all = await call(a, 'streams.listAll', {})
  assert.deepStrictEqual(all.stream.find(({ id }) => id === 'earlier'), { id: 'earlier', groups: ['g'] })
  await gives('streams.send', { ...group, type: 't', data: 1 }, null)
  await gives('streams.delete', item, { old_value: { n: 2 } })
}

async function errors(a) {
  const refused = async (id, payload, code) => {
    const error = await refusal(a, id, payload)
    assert.equal(error.name, 'InvocationError', `${id}: ${error}`)
    assert.equal(error.code, code, `${id} ${JSON.stringify(payload)}: ${error}`)
    assert.ok(error.message, 'an error has a message')
  }
  const item = { stream_name: 's', group_id: 'g', item_id: 'i' }
  await refused('stream::set', {}, CODES.badInput)
  await refused('stream::set', 'text', CODES.badInput)
  await refused('stream::set', { ...item, stream_name: '' }, CODES.badInput)
  await refused('stream::get', { stream_name: 's', group_id: 'g' }, CODES.badInput)
  await refused('stream::get', { ...item, item_id: 7 }, CODES.badInput)
  await refused('stream::update', { ...item, ops: [{ type: 'divide', path: 'n', by: 2 }] }, CODES.badInput)
  await refused('stream::update', { ...item, ops: [{ type: 'increment', path: 'n', by: 1.5 }] }, CODES.badInput)
  await refused('stream::nothing', item, CODES.notFound)
  await refused('nobody::has-this', {}, CODES.notFound)
  assert.equal(await call(a, 'stream::get', item), undefined, 'a refused call leaves nothing behind')
}

/** Worker A calls functions that worker B registered. */
async function functionsOfWorkers(a, b) {
  b.registerFunction('test::echo', async (input) => ({ echo: input }))
  b.registerFunction('test::nothing', async () => undefined)
  b.registerFunction('test::fails', async () => {
    throw new Error('no such luck')
  })
  // A worker's frames are handled in their order: after this call its functions are known.
  await call(b, 'stream::list_all', {})

  const input = { deep: [{ value: null }], text: '😀' }
  assert.deepStrictEqual(await call(a, 'test::echo', input), { echo: input })
  assert.deepStrictEqual(await call(b, 'test::echo', 1), { echo: 1 }, 'also its own')
  assert.equal(await call(a, 'test::nothing', {}), undefined)
  const error = await refusal(a, 'test::fails', {})
  assert.equal(error.code, CODES.failed)
  assert.match(error.message, /no such luck/)
  assert.match(error.stacktrace, /functions\.mjs/, "the handler's stack comes with it")

  const many = await Promise.all(Array.from({ length: 100 }, (_, n) => call(a, 'test::echo', n)))
  assert.deepStrictEqual(many, Array.from({ length: 100 }, (_, echo) => ({ echo })))
}

/** Calls that nobody waits for are made, also when they fail. */
async function voidCalls(a, b) {
  let heard
  const hearing = new Promise((resolve) => (heard = resolve))
  b.registerFunction('test::hear', async (input) => heard(input))
  await call(b, 'stream::list_all', {})

  const send = (function_id, payload) => a.trigger({ function_id, payload, action: TriggerAction.Void() })
  assert.equal(await send('nobody::has-this', {}), undefined)
  assert.equal(await send('stream::set', {}), undefined)
  const item = { stream_name: 'void', group_id: 'g', item_id: 'i' }
  assert.equal(await send('stream::set', { ...item, data: 'kept' }), undefined)
  assert.equal(await call(a, 'stream::get', item), 'kept')
  assert.equal(await send('test::hear', { n: 1 }), undefined)
  assert.deepStrictEqual(await within('the void call', hearing), { n: 1 })
}
