"""A small file of measurements between motes, as its importer and its reader are tested with."""

K7 = (
    '{"location": "here", "node_count": 3}\n'
    "datetime,src,dst,channel,mean_rssi,pdr,tx_count\n"
    "2018-01-11 16:33:07,0,4,11,-53.2,1.0,\n"
    "2018-01-11 16:33:07,4,0,11,-60,0.5,100\n"
    "2018-01-11 16:33:07,4,7,,,0.0,\n"
)
