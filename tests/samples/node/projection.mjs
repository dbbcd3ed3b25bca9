// Counters that follow a group's changes. Printed are the registration, as JSON, and a sentence about what the handler does
// (`stream::update` against another stream). Changes:
// - The first two lines, and the registrations as calls of the SDK: it is JSON that is printed.
// - The handler's body, after that sentence.
import { registerWorker } from 'iii-sdk'
const iii = registerWorker('ws://localhost:49134')

iii.registerFunction('presence::on-change', (event) =>
  iii.trigger({
    function_id: 'stream::update',
    payload: {
      stream_name: 'presence-stats',
      group_id: event.groupId,
      item_id: 'counts',
      ops: [{ type: 'increment', path: event.event.type, by: 1 }],
    },
  }),
)

iii.registerTrigger({
  type: 'stream',
  function_id: 'presence::on-change',
  config: { stream_name: 'presence', group_id: 'room-1' },
})
