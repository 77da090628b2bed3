@echo off
rem run.cmd - loads wsklab.sys on this machine, lets it prove itself, takes it away again.
rem Needs an administrator's prompt and a Windows x64 in test-signing mode. Leaves result.json here.
rem Also runs under Wine. Only cmd's own commands and the system's tools: no PowerShell.
setlocal
cd /d "%~dp0"
set SERVICE=wsklabkit
set FOLDER=C:\wsklab
set IMAGE=%FOLDER%\wsklabkit.sys
set STEPS=steps.txt
set FAILED=0
if exist %STEPS% del %STEPS%
if exist run.json del run.json
if exist result.json del result.json

rem Writing below HKLM needs elevation; the test is the same in every language of Windows.
reg add HKLM\SOFTWARE\wsklabkit /f >nul 2>&1
set CODE=%errorlevel%
reg delete HKLM\SOFTWARE\wsklabkit /f >nul 2>&1
call :note administrator
if not "%CODE%"=="0" echo Not elevated: start this from an administrator's prompt.
if not "%CODE%"=="0" exit /b 5

rem bcdedit answers in the user's language; the boot options in the registry do not.
reg query HKLM\SYSTEM\CurrentControlSet\Control /v SystemStartOptions 2>nul | find "TESTSIGNING" >nul
set CODE=%errorlevel%
call :note test_signing
if not "%CODE%"=="0" echo Test signing seems off: bcdedit /set testsigning on, then restart.

certutil -addstore -f Root wsklab.cer >nul 2>&1
set CODE=%errorlevel%
call :note certificate_root
certutil -addstore -f TrustedPublisher wsklab.cer >nul 2>&1
set CODE=%errorlevel%
call :note certificate_publisher

if not exist %FOLDER% mkdir %FOLDER%
call :stop
sc delete %SERVICE% >nul 2>&1
copy /y wsklab.sys %IMAGE% >nul
set CODE=%errorlevel%
call :note copy
sc create %SERVICE% type= kernel start= demand binPath= %IMAGE% >nul
set CODE=%errorlevel%
call :note create
sc start %SERVICE% >nul
set CODE=%errorlevel%
call :note start
if not "%CODE%"=="0" echo The driver does not start: error %CODE%. README.txt explains 577, 1275 and 5.
if not "%CODE%"=="0" goto remove

wskctl.exe kit run --output run.json
set CODE=%errorlevel%
call :note kit
call :stop
call :note stop
if not "%CODE%"=="0" goto remove

for %%n in (1 2 3 4 5 6 7 8 9 10) do call :reload %%n

:remove
sc delete %SERVICE% >nul
set CODE=%errorlevel%
call :note delete
del %IMAGE% >nul 2>&1
wskctl.exe kit report run.json %STEPS% --output result.json
if errorlevel 1 exit /b 1
if "%FAILED%"=="0" echo All steps done. Take result.json back: wsklab results import result.json
if not "%FAILED%"=="0" echo Some steps failed: see result.json. It is worth taking back all the same.
exit /b %FAILED%

:reload
sc start %SERVICE% >nul
set CODE=%errorlevel%
call :note reload_start_%1
call :stop
call :note reload_stop_%1
goto :eof

rem A driver cannot refuse its unload: it is asked first, and stopped only when nobody uses it.
:stop
wskctl.exe op quiesce --timeout 10000 >nul 2>&1
set CODE=%errorlevel%
if not "%CODE%"=="0" goto :eof
sc stop %SERVICE% >nul 2>&1
set CODE=%errorlevel%
goto :eof

rem Notes a step's name and code; test signing and certificates are told, not required.
:note
>>%STEPS% echo %1 %CODE%
echo   %1: %CODE%
if "%CODE%"=="0" goto :eof
if "%1"=="test_signing" goto :eof
if "%1"=="certificate_root" goto :eof
if "%1"=="certificate_publisher" goto :eof
set FAILED=1
goto :eof
