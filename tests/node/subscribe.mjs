// What a published stream client makes of a group: `node subscribe.mjs browser|node`.
import assert from 'node:assert/strict'
import { call, holds, main, STREAMS, streamClient, worker } from './lib.mjs'

const GROUP = { stream_name: 'chat', group_id: 'room-1' }

main(async () => {
  const Stream = await streamClient(process.argv[2])
  const writer = worker()
  const set = (id, text) => call(writer, 'stream::set', { ...GROUP, item_id: id, data: { id, text } })
  const send = (type, data, id) => call(writer, 'stream::send', { ...GROUP, type, data, id })
  await set('m0', 'there before')

  const client = new Stream(`${STREAMS}/`)
  const group = client.subscribeGroup('chat', 'room-1')
  const item = client.subscribeItem('chat', 'room-1', 'm1')
  const other = client.subscribeItem('chat', 'room-1', 'm0')
  const m0 = { id: 'm0', text: 'there before' }

  // The sync.
  await holds(group, [m0])
  await holds(other, m0)
  assert.equal(item.getState(), null)

  // Create, update, and an update operation.
  await set('m1', 'one')
  await holds(group, [m0, { id: 'm1', text: 'one' }])
  await holds(item, { id: 'm1', text: 'one' })
  await set('m1', 'two')
  await holds(group, [m0, { id: 'm1', text: 'two' }])
  await holds(item, { id: 'm1', text: 'two' })
  const ops = [{ type: 'set', path: 'read', value: true }]
  await call(writer, 'stream::update', { ...GROUP, item_id: 'm1', ops })
  await holds(group, [m0, { id: 'm1', text: 'two', read: true }])
  await holds(item, { id: 'm1', text: 'two', read: true })

  // Custom events: every listener hears each once, with three subscriptions on one connection.
  const heard = []
  for (const [name, subscription] of Object.entries({ group, item, other })) {
    subscription.onEvent('typing', (data) => heard.push([name, data]))
  }
  await send('typing', { n: 1 })
  await send('typing', { n: 2 }, 'm1')
  await send('other', { n: 3 })
  await send('typing', { n: 4 }, 'm0')
  // What comes on one connection comes in order: after this there is no more to hear.
  await set('m1', 'three')
  await holds(item, { id: 'm1', text: 'three' })
  await holds(group, [m0, { id: 'm1', text: 'three' }])
  heard.sort((a, b) => a[1].n - b[1].n || a[0].localeCompare(b[0]))
  assert.deepStrictEqual(heard, [
    ['group', { n: 1 }],
    ['group', { n: 2 }],
    ['item', { n: 2 }],
    ['group', { n: 4 }],
    ['other', { n: 4 }],
  ])

  // Delete, and create again.
  await call(writer, 'stream::delete', { ...GROUP, item_id: 'm1' })
  await holds(group, [m0])
  await holds(item, null)
  await set('m1', 'again')
  await holds(group, [m0, { id: 'm1', text: 'again' }])
  await holds(item, { id: 'm1', text: 'again' })

  // Other groups are none of its business, and what was left is left: only the item still follows.
  await call(writer, 'stream::set', { ...GROUP, group_id: 'room-2', item_id: 'm1', data: { id: 'm1' } })
  group.close()
  await set('m2', 'not for the group')
  await set('m1', 'for the item')
  await holds(item, { id: 'm1', text: 'for the item' })
  assert.deepStrictEqual(group.getState(), [m0, { id: 'm1', text: 'again' }])

  // Joining again on the same connection.
  const again = client.subscribeGroup('chat', 'room-1')
  await holds(again, [m0, { id: 'm1', text: 'for the item' }, { id: 'm2', text: 'not for the group' }])
  await set('m2', 'for the group')
  await holds(again, [m0, { id: 'm1', text: 'for the item' }, { id: 'm2', text: 'for the group' }])

  client.close()
  await writer.shutdown()
})
