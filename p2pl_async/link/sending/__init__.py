"""How the packets of a message are sent: once, with parity, or until they are acknowledged.

    once                each packet once, whatever becomes of it
    protected           likewise, with parity packets: any k of a group make up for the others
    repeated            each packet until it is acknowledged: stop-and-wait or go-back-n
    selective_repeat    likewise, many under way at a time, and only the lost ones again

Packets are decided many at once. Where chances stay equal for long, they are not decided one by
one at all: how many are lost, or how often they are repeated, is drawn from its own law
(binomial; geometric and multinomial), so that a message of a million packets costs as much as
one of a hundred. A stretch of equal chances ends where the weather, the rate or an outage
changes; packets that are on the air at such an instant are decided one by one.
"""
