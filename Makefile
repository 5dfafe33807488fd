# For those who type make out of habit: the scripts do the work.
PREFIX ?= /usr/local
export DESTDIR

.PHONY: build test install uninstall
build:
	scripts/setup build
test:
	npm test
install:
	./install --prefix "$(PREFIX)"
uninstall:
	./uninstall --prefix "$(PREFIX)"
