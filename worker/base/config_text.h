/* The table of settings as texts on standard output: for --help, the README's table and deploy/campaign-worker.conf.example. */
#ifndef CONFIG_TEXT_H
#define CONFIG_TEXT_H

#include "worker/base/settings.h"

void config_print_help(enum program program);
void config_print_markdown(void);
void config_print_example(void);

#endif
