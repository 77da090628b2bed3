#include "verbs.h"
int VerbOp(int c, char**a){(void)c;(void)a;return 2;}
