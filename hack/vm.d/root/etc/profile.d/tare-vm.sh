# shellcheck shell=sh disable=SC2013,SC2164
PATH=/payload/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
# A serial line knows neither the terminal's kind nor its size; the host tells.
if [ "$(tty)" = /dev/ttyS0 ]; then
	for word in $(cat /proc/cmdline); do
		case $word in
		tare.term=*) export TERM="${word#*=}" ;;
		tare.rows=*) stty rows "${word#*=}" ;;
		tare.cols=*) stty cols "${word#*=}" ;;
		esac
	done
	cd /payload
fi
