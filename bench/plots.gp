# Draws the pictures of docs/performance.md from what pgque_bench --points wrote; scripts/bench --update-docs runs it.
#   gnuplot -e "points='DIRECTORY'" bench/plots.gp

set terminal svg size 640,400 dynamic font "sans-serif,13" background rgb "white"
set grid
set key top left
pgque = "#1f6feb"
raw = "#9a9a9a"

set output "docs/performance-send-batch.svg"
set title "send_batch: messages per second" noenhanced
set xlabel "messages in a batch"
set logscale x
set format y "%.0f"
set yrange [0:*]
plot points."/send_batch_text.dat" using 1:2 with linespoints lw 2 lc rgb pgque title "pgque, text", \
     points."/send_batch_text.dat" using 1:3 with linespoints lw 2 dt 2 lc rgb raw title "raw libpq, text", \
     points."/send_batch_jsonb.dat" using 1:2 with linespoints lw 2 lc rgb "#2da44e" title "pgque, jsonb", \
     points."/send_batch_jsonb.dat" using 1:3 with linespoints lw 2 dt 3 lc rgb raw title "raw libpq, jsonb"

set output "docs/performance-batch-size.svg"
set title "Cost of a received message by size of the batch"
set xlabel "messages in a batch"
set ylabel "microseconds per message"
set logscale x
set key top right
plot points."/dispatch.dat" using 1:2 with linespoints lw 2 lc rgb pgque title "Consumer", \
     points."/receive.dat" using ($1 > 1 ? $1 : 1/0):2 with linespoints lw 2 lc rgb "#2da44e" title "receive + ack", \
     points."/receive.dat" using ($1 > 1 ? $1 : 1/0):3 with linespoints lw 2 dt 2 lc rgb raw title "raw libpq", \
     points."/dispatch.dat" using 1:4 with linespoints lw 2 dt 3 lc rgb pgque title "Consumer, client's processor time"

set output "docs/performance-wake-up.svg"
set title "From the tick's commit to the handler"
set xlabel "per cent of the wake-ups"
set ylabel "milliseconds at most"
unset logscale x
set key top left
plot points."/wake_up.dat" using 1:2 with lines lw 2 lc rgb pgque title "Consumer", \
     points."/wake_up.dat" using 1:3 with lines lw 2 dt 2 lc rgb raw title "raw libpq"

set output "docs/performance-workers.svg"
set title "Cooperative workers, 8 batches of 10 messages of 20 ms"
set xlabel "workers"
set ylabel "times as fast as one"
set xrange [0:9]
plot points."/cooperative.dat" using 1:2 with linespoints lw 2 lc rgb pgque title "pgque", \
     x with lines dt 2 lc rgb raw title "ideal"
